"""Application Auto Scaling for the laptop cloud: scalable targets, policies, scheduled actions, activities.

CloudWatch's alarms decide when; `scaler` computes the capacity and sets it through SageMaker's own API.
"""
