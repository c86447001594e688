"""What operators run, with their own credentials, against AWS or the laptop cloud alike.

May import `contracts`, `infra.settings` and `planning`; functions, models and the emulator only as processes.
"""
