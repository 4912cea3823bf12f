"""What the offline planner is made of: from a goal in plain language to a program of tool steps."""
