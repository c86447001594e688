"""Two functions of the refresh loop in one bundle: `handler` moves a release, `analysis_handler` analyzes it.

They share the ledger, the errors and the tables, so they are one package. When a canary advances stands in
`rollout` (what comes next) and `analysis` (what the evidence says).
"""
