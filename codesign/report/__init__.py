"""The report: one self-contained HTML file that works offline."""

from codesign.report.html import render, write

__all__ = ["render", "write"]
