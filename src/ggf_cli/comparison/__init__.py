"""Comparisons of solvers on the same samples.

request, plan       the requested comparison, and the planned one
lineup, presets     cells: each solver at each setting; tables of the paper
budget, speed       samples that a time budget allows
runner, cell_runs   the run of each repeat of each cell
analysis            statements about settings, recommendation
equivalence         the statement about two settings: intervals and margin
statements          statements as text
report/             table, figures, CSV, HTML
"""
