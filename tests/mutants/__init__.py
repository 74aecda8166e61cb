"""Deliberate faults: which of them do the tests notice?"""
