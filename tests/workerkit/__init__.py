"""What a child process of the worker tests runs; found by the `worker` fixture's interpreter, not by ours."""
