"""The laptop cloud's console: a page over the public AWS APIs of the emulator, nothing more."""
