"""The subcommands of `toymodel`, one file each; `toymodel.cli` imports the one that is called."""
