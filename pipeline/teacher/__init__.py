"""Asking a teacher: whole blocks of views, plain views, the evaluation set, a pilot; and the drift between backends.

Writes nothing. Public names: `BlockMaker`, `PlainMaker`, `EvaluationSet`, `draw_pilot`, `measure_drift`.
"""
