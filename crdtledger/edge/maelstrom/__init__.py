"""A node of the ledger that speaks the protocol of Maelstrom (https://github.com/jepsen-io/maelstrom), a workbench that runs nodes as
processes, is their network, and judges what their clients were answered.

What its workloads ask for are facts here: an element of a set, and a message that is broadcast, is a fill whose trade id is the value; a
counter is a position, bought less sold. They are recorded in this node's signed lane and reach the other nodes as frames of the gossip
engine, which travel inside Maelstrom's messages. Keys and genesis are derived from the nodes' names, so they protect nothing, and the
journal is memory: Maelstrom's nodes start from nothing. Maelstrom's topology is acknowledged and not followed: the engine has its own.

``node`` and what it is made of are pure; ``shell`` has standard input, standard output and the clock.
"""
