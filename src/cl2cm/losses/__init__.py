"""The losses of the method, Eq. 1 to 10: pure functions on tensors.

contrastive   Eq. 1, 8     InfoNCE, hardest-negative triplet
transport     Eq. 2, 3     costs, marginals, plans (solvers: sinkhorn with newton, ipot)
alignment     Eq. 4, 5, 6  transport cost, agreement of words with the plan
distillation  Eq. 9, 10    relations and their divergence
"""
