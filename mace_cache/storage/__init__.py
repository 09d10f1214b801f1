"""Storages of compiled programs: the contract in ``base``, one backend a file beside it."""
