"""Service Quotas, as far as the laptop cloud has it: reading the quotas of a small file."""
