"""The commands: one file each, with its flags, its help and what it does. Heavy imports wait until one runs."""
