"""The search benchmark's parts: the same runs in our tables and in MLflow's, and MLflow's store in a process of its own."""
