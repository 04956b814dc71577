"""Metrics of sample quality.

registry     the tables of metrics and feature spaces; reading them imports no torch
evaluator    one metric of samples, in a feature space, against a reference

    for evaluator in make_evaluators(default_metrics(model), model):
        print(evaluator.title, evaluator.evaluate(images), evaluator.floor(len(images), 3))

Feature spaces: `fashion` (a small classifier), `inception`, `pixels` (the numbers themselves).
"""
