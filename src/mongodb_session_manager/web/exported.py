"""Foreign text in files that others read, as both apps write it."""

from ..exported import code as code
from ..exported import fenced as fenced
from ..exported import inline as inline
from ..exported import one_line as one_line
from ..exported import quoted as quoted
