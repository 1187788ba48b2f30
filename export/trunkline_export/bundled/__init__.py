"""The recipe of the bundled model: DeiT-Tiny's embedding distilled into a small convolutional network.

Three steps, each a command of `python -m trunkline_export.bundled` and a function:

views   photographs -> augmented views with the teacher's answers     `views.generate`
train   views -> the student's weights                                `distil.Trainer`
probe   weights -> accuracies beside the teacher's and raw pixels'    `probe.measure`

`student` alone is needed to export the result.
"""
