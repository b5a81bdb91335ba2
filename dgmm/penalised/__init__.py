"""Networks on the fixed side alone: the penalised likelihood and its search."""
