"""One file a command: its flags, its help, and `run(args, rest)`, in which whatever is heavy is imported.

`args.typed` is what was typed, from the command's name on.
"""
