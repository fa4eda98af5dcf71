"""TensorBoard's HPARAMS tab: a line a run, with its settings and final metrics, whatever methods are compared."""

import json
import subprocess
import sys

import pytest

from fewlabels.tracking.base import RunInfo
from fewlabels.types import RunRecord

pytest.importorskip("tensorboard")

# The answer that TensorBoard's server gives its page; in a process of its own, which may warn.
READ = """
import json, sys
from tensorboard import context
from tensorboard.backend.event_processing import data_provider, plugin_event_multiplexer
from tensorboard.plugins import base_plugin
from tensorboard.plugins.hparams import api_pb2, backend_context, get_experiment, list_session_groups
events = plugin_event_multiplexer.EventMultiplexer()
events.AddRunsFromDirectory(sys.argv[1])
events.Reload()
provider = data_provider.MultiplexerDataProvider(events, sys.argv[1])
backend = backend_context.Context(base_plugin.TBContext(data_provider=provider))
of = (context.RequestContext(), backend, "")
columns = get_experiment.Handler(*of, api_pb2.GetExperimentRequest(include_metrics=True)).run()
asked = api_pb2.ListSessionGroupsRequest(start_index=0, slice_size=9, allowed_statuses=[1, 2, 3, 0])
for name in [each.name.tag for each in columns.metric_infos]:
    asked.col_params.add(metric={"tag": name}, include_in_result=True)
for name in [each.name for each in columns.hparam_infos]:
    asked.col_params.add(hparam=name, include_in_result=True)
found = {}
for group in list_session_groups.Handler(*of, asked).run().session_groups:
    settings = {k: getattr(v, v.WhichOneof("kind")) for k, v in group.hparams.items()}
    values = {each.name.tag: each.value for each in group.metric_values}
    found[group.name] = [settings, values, [each.status for each in group.sessions]]
print(json.dumps([sorted(each.name for each in columns.hparam_infos), found]))
"""


def test_the_tab_compares_runs_of_different_methods(tmp_path):
    from fewlabels.tracking.tensorboard import TensorBoard

    for name, status, method in (
        ("uda-CNN-x-s0-1", "finished", {"threshold": 0.8}),
        ("entropy-CNN-x-s1-2", "failed", {"alpha": 1, "on": True}),
        ("vat-CNN-x-s0-3", "running", {}),
    ):
        folder = tmp_path / name
        folder.mkdir()
        config = {"seed": 0, "method": method, "optim": {"lr": 0.1, "clip_norm": None}, "output_root": "x"}
        tracker = TensorBoard()
        tracker.start(RunInfo(name, folder, config, None, None, None, "f"), [])
        line = {"epoch": 3, "step": 9, "loss": 0.5}
        tracker.epoch(line)
        tracker.finish(RunRecord(status=status, curve=[line], metrics={"best_test_accuracy": 62.5}))
    read = subprocess.run([sys.executable, "-c", READ, str(tmp_path)], capture_output=True, text=True)
    columns, found = json.loads(read.stdout.splitlines()[-1])
    assert columns == ["method", "method.alpha", "method.on", "method.threshold", "optim.lr", "seed"]
    settings, values, statuses = found["uda-CNN-x-s0-1"]
    assert settings == {"method": "uda", "method.threshold": 0.8, "optim.lr": 0.1, "seed": 0}
    assert values == {"final/best_test_accuracy": 62.5, "loss": 0.5}
    assert statuses == [1]
    assert found["entropy-CNN-x-s1-2"][0]["method.on"] is True
    assert found["entropy-CNN-x-s1-2"][1:] == [{"loss": 0.5}, [2]]
    assert found["vat-CNN-x-s0-3"][1:] == [{"loss": 0.5}, [0]]  # it is not known to have ended
