"""The suites: study files by name, each a set of scenario profiles on which all methods are tuned alike."""
