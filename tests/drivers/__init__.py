"""The driver matrix: real drivers, each in processes of its own. Run by ``.ci/run``."""
