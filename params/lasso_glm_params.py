"""Parameters of the Lasso GLMs under their published name: a view on params/lasso_glm.yaml."""

from pathlib import Path

from sleep_interpreter.utils.core.config import read_yaml
from sleep_interpreter.utils.DotDict import DotDict

lasso_glm_params = DotDict(read_yaml(Path(__file__).with_name("lasso_glm.yaml")))
