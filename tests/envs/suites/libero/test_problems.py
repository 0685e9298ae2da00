from pathlib import Path

from reconverge.envs.suites.libero.problems import Joint, read_problem

BDDL = """
(define (problem LIBERO_Tabletop_Manipulation)
  (:domain robosuite)
  (:language Put the bowl in the drawer)
  (:regions
    (bowl_region (:target main_table) (:ranges ((-0.1 -0.1 0.1 0.1))))
    (top_region (:target cabinet_1)))
  (:fixtures main_table - table cabinet_1 - cabinet)
  (:objects bowl_1 bowl_2 - bowl plate_1 - plate)
  (:obj_of_interest bowl_1)
  (:init (On bowl_1 main_table_bowl_region))
  (:goal (And (In bowl_1 cabinet_1_top_region))))
"""


def test_read_problem_finds_what_the_goal_is_about(tmp_path):
    """Joints are those of the fixture whose region the goal names, in the model's own limits."""
    (tmp_path / "task.bddl").write_text(BDDL)
    (tmp_path / "cabinet.xml").write_text(
        '<m><joint name="top_level" range="-0.16 0.01"/><joint name="low_level" range="0 1"/></m>'
    )
    problem = read_problem(tmp_path / "task.bddl", Path("states"), tmp_path)
    assert problem.scene == "libero_tabletop_manipulation"
    assert problem.language == "put the bowl in the drawer"
    assert problem.objects == ("bowl_1",)
    assert problem.joints == (
        Joint("cabinet_1_top_level", -0.16, 0.01),
        Joint("cabinet_1_low_level", 0.0, 1.0),
    )


def test_read_problem_knows_fixtures_without_joints(tmp_path):
    (tmp_path / "task.bddl").write_text(BDDL)
    assert read_problem(tmp_path / "task.bddl", Path("states"), tmp_path).joints == ()
