"""What `preflight` looks at before a deploy; every check reads, none writes."""
