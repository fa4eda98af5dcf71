"""What the README and docs/ give to be copied works as it stands."""

import math
import re
from pathlib import Path
from textwrap import indent

import pytest
import torch

from fewlabels.methods.base import ParameterGroup
from fewlabels.report.figures.build import check
from fewlabels.report.spec.definitions import read_definition
from tests.methods.helpers import built, context, make_batch, model

ROOT = Path(__file__).parents[1]


def test_the_methods_of_the_documentation_train_as_they_stand():
    text = (ROOT / "docs" / "adding-a-method.md").read_text()
    smallest, _, _, _, _, adversarial = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    names = {"__name__": "mine"}
    exec(smallest, names)
    for labelled in (0, 8):
        network, batch = model(), make_batch(labelled)
        output = names["Mine"]().step(context(network), batch)
        output.loss.backward()
        assert output.terms["consistency"] > 0
        assert next(network.parameters()).grad.isfinite().all()
    names |= {"torch": torch, "nn": torch.nn, "math": math, "ParameterGroup": ParameterGroup}
    exec(adversarial, names)
    network, method = model(), built(names["Adversarial"]())
    trained = {"discriminator": network, "generator": method.generator}
    for phase, module in trained.items():
        method.step(context(network, phase=phase, generator=torch.Generator()), make_batch()).loss.backward()
        (group,) = method.parameter_groups(network, phase)
        assert [id(p) for p in group.parameters] == [id(p) for p in module.parameters()]
        assert all(p.grad.any() for p in group.parameters if p.ndim > 1)


@pytest.mark.parametrize("node", ["claims", "figures"])
def test_the_entries_of_a_table_of_one_s_own_are_what_a_table_may_hold(node, tmp_path):
    text = (ROOT / "README.md").read_text()
    (block,) = (b for b in re.findall(r"```yaml\n(.*?)```", text, re.DOTALL) if b.startswith(node))
    head = "id: own\ntitle: T\nrows: [a, b, c, row]\ncolumns: ['8000', b]\nmetrics: {test_accuracy: x, test_error: y}\n"
    file = tmp_path / "own.yaml"
    file.write_text("table:\n" + indent(head + block, "  "))
    table = read_definition(file)
    assert len(getattr(table, node)) > 4
    check({"own": table, "other": table})
