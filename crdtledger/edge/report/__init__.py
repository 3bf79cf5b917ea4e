"""What an operator opens first: sightings of nodes, the breaks that they show, and the page that tells of them.

sighting     what one node says, read at one frontier
gathering    a node, its peers and statements held against each other: the rows
holding      a statement held against what a node has
commands     what to run next for a break
picture      the drawings, as SVG
page         the report as one self-contained page
files        the report as JSON, CSV, Markdown and Arrow
"""
