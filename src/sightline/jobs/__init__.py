"""One job a file: settings in, a result out; the command line and Python both call these."""
