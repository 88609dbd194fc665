"""The open-loop load generator, with a ledger of its own that every answer is held against.

Pure: bag, ledger, verdict. They share no code with the service that they judge.
"""
