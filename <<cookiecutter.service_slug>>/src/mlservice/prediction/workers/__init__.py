"""The workers that predict: their connections, their health, and the choice of one."""
