"""The monitor: a page in the browser that shows a session, in a process of its own."""
