"""Divergence: where two views of one ledger differ, why, and the exact fact that would close the gap.

    figures      one view's numbers as columns: a replica's, a checkpoint's, a venue's or a custodian's statement
    compare      two or three of them against each other, whole columns at a time
    trades       the single trades behind a difference: by id, and one against many
    causes       what the evidence says a difference comes from
    corrections  the facts that would close it, with ids that are the same however often they are worked out
    breakrow     the row that an operator reads

Pure: what is compared, and what time it is, are arguments. Pages and files are made of rows elsewhere.
"""
