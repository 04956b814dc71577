"""Solvers side by side on the same samples: which cells, how many samples, drawing, judging, and what follows from it.

lineup    what the user names -> cells, each one solver at one setting
presets   the tables of the paper, as line-ups
budget    how many samples the time allows
pieces    a cell is drawn in pieces, one a repeat; each is kept as soon as it is drawn
run       all pieces of all cells, judged as they come: the comparison
document  the comparison as data, `compare.json`
analysis  significant differences, best and recommended settings
"""
