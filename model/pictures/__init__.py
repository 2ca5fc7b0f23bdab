"""From a stranger's file to the pixels that a tower reads."""
