"""The fault campaign: harm of every kind, each try in processes of its own, on real drivers.

``python -m tests.faults`` runs it and writes the table in ``docs/faults.md``.
"""
