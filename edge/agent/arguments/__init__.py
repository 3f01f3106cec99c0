"""What each command of `yulink` takes, and how it is called: its code is imported only then."""
