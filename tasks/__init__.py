"""seqio tasks: records (the built-in demo), super_natural_instructions, text.

Import these modules as `hyperjax.tasks.NAME`, never as `tasks.NAME`: seqio
refuses to register a task twice.
"""
