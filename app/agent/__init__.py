"""The loop: plan, act, observe, until an answer or a limit."""
