"""`hydra/launcher=slurm`: Hydra's own launcher raises at the first job that SLURM has killed, and
leaves the others unattended. This one waits for all of them, and names those that failed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn, JobStatus, filter_overrides
from hydra_plugins.hydra_submitit_launcher.submitit_launcher import SlurmLauncher


class PatientSlurmLauncher(SlurmLauncher):
    """A sweep as one job array; Hydra finds it by its place in `hydra_plugins`."""

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        # Slow to import, and Hydra imports every plugin at each start.
        from submitit import Job
        from tqdm import tqdm

        from beyond_ce.command_line import SweepFailures
        from beyond_ce.errors import RunError
        from beyond_ce.processes.slurm import failure, parameters_of, submit, wait

        assert self.config is not None
        Path(self.config.hydra.sweep.dir).mkdir(parents=True, exist_ok=True)
        numbers = range(initial_job_idx, initial_job_idx + len(job_overrides))
        arguments = [
            (list(overrides), "hydra.sweep.dir", n, f"job_id_for_{n}", Singleton.get_state())
            for n, overrides in zip(numbers, job_overrides, strict=True)
        ]
        folder = Path(self.params["submitit_folder"])
        jobs = submit(folder, parameters_of(self.params), self, arguments)
        print(f"submitted as SLURM jobs {jobs[0].job_id} .. {jobs[-1].job_id}: see {folder.parent}")
        results: dict[str, JobReturn] = {}
        with tqdm(total=len(jobs), unit="run", dynamic_ncols=True) as bar:

            def finish(job: Job[JobReturn]) -> None:
                number = jobs.index(job)
                error = failure(job)
                if error is None:
                    results[job.job_id] = job.results()[0]
                else:
                    overrides = filter_overrides(job_overrides[number])
                    for sweep in SweepFailures.sweeps:
                        sweep.note(numbers[number], overrides, f"{error}; see {job.paths.stderr}")
                    results[job.job_id] = JobReturn(overrides, status=JobStatus.FAILED)
                    results[job.job_id].return_value = RunError(error)
                bar.update()

            wait(jobs, finish, bar.set_postfix_str)
        return [results[job.job_id] for job in jobs]
