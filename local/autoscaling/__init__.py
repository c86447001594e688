"""Application Auto Scaling on a laptop: registers what may be scaled, judges nothing itself, and acts.

CloudWatch's alarms do the judging; SageMaker's own API does the scaling. `plugin` binds the two.
"""
