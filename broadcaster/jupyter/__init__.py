"""A live display of a stream in a notebook's cell.

from broadcaster.jupyter import show

result = await show(broadcaster.events("job-42", wait_s=30))
"""

from broadcaster.jupyter.show import show

__all__ = ["show"]
