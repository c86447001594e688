"""What every model container promises, asked of a real server process over HTTP."""
