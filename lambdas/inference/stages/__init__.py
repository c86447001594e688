"""The stages of the inference pipeline, one small class with one method each; `service` orders them."""
