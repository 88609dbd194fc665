"""Figures of the documentation: each comes from a command here."""
