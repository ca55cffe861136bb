"""`authz doctor`: what an operator pastes into a report of a fault, and what is wrong with this installation."""
