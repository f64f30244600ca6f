"""The examiner: questions, answers that are measured, and finding the right one."""
