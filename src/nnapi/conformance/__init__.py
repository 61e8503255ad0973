"""Conformance cases: read them, run them on any driver, compare what comes out."""

from nnapi.conformance.reader import Case, case_files, read_cases
from nnapi.conformance.runner import Outcome, run_case, run_file, run_folder
from nnapi.conformance.summary import Summary, summarize

__all__ = ["Case", "Outcome", "case_files", "read_cases", "run_case", "run_file", "run_folder", "Summary", "summarize"]
