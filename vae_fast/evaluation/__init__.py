"""What a trained model knows, in figures: bounds and how far to trust them, what its code holds.

All of a model at once: :func:`vae_fast.evaluation.evaluate_model`, which gives a
:class:`vae_fast.evaluation.Evaluation`: JSON and back. The parts are functions of log weights, of
codes, or of a log density, and ask for no model of this package.
"""

from vae_fast.evaluation.annealing import (
    AnnealedEstimate,
    annealed_importance_sampling,
    standard_normal_log_prob,
)
from vae_fast.evaluation.clustering import GaussianMixture, assign, fit_gaussian_mixture
from vae_fast.evaluation.dci import DCI, disentanglement_completeness_informativeness
from vae_fast.evaluation.decomposition import Decomposition, decompose_kl
from vae_fast.evaluation.elbo import elbo_per_datum
from vae_fast.evaluation.evaluate import evaluate_model
from vae_fast.evaluation.figures import METRICS, Estimate, Evaluation
from vae_fast.evaluation.importance import ImportanceEstimate, importance_estimate, iwae_bound
from vae_fast.evaluation.imputation import Imputation, impute
from vae_fast.evaluation.mig import mutual_information_gap
from vae_fast.evaluation.pareto import ParetoSmoothed, pareto_smooth
from vae_fast.evaluation.sap import separated_attribute_predictability
from vae_fast.evaluation.units import active_units, kl_per_dimension

__all__ = [
    "DCI",
    "METRICS",
    "AnnealedEstimate",
    "Decomposition",
    "Estimate",
    "Evaluation",
    "GaussianMixture",
    "ImportanceEstimate",
    "Imputation",
    "ParetoSmoothed",
    "active_units",
    "annealed_importance_sampling",
    "assign",
    "decompose_kl",
    "disentanglement_completeness_informativeness",
    "elbo_per_datum",
    "evaluate_model",
    "fit_gaussian_mixture",
    "importance_estimate",
    "impute",
    "iwae_bound",
    "kl_per_dimension",
    "mutual_information_gap",
    "pareto_smooth",
    "separated_attribute_predictability",
    "standard_normal_log_prob",
]
