"""The built-in components, one published idea per file, found by entry point exactly as a third party's."""
