"""Metrics of sample quality.

registry     the tables of metrics and feature spaces; importing it does not import torch
evaluator    one metric, in one feature space, against one reference
reference    features of real samples, or of a distribution that is known exactly

    for evaluator in make_evaluators(default_metrics(model), model):
        print(evaluator.title, evaluator.evaluate(images), evaluator.floor(len(images), 3))

Feature spaces: `fashion` (a small Fashion-MNIST classifier), `inception` (the network of FID) and
`pixels` (the samples themselves).
"""
