"""Goals of several steps, with a result carried from one to the next."""

import pytest
from offline_run import carry_out

SEVERAL = [
    (
        "Add a note to PROP-2025-001 and to PROP-2025-002: hi",
        ["add PROP-2025-001: hi", "add PROP-2025-002: hi"],
    ),
    (
        "Add a note to PROP-2025-001 & PROP-2025-002: hi",
        ["add PROP-2025-001: hi", "add PROP-2025-002: hi"],
    ),
    (
        "Calculate 3*3 and 4*4 and note the sum on PROP-2025-001",
        ["3 * 3 = 9", "4 * 4 = 16", "9 + 16 = 25", "add PROP-2025-001: 25"],
    ),
    (
        "Calculate 3*3 and 4*4 and note their sum on PROP-2025-001",
        ["3 * 3 = 9", "4 * 4 = 16", "9 + 16 = 25", "add PROP-2025-001: 25"],
    ),
    (
        "Calculate 3*3 and 4*4 and note the average on PROP-2025-001",
        ["3 * 3 = 9", "4 * 4 = 16", "(9 + 16) / 2 = 12.5", "add PROP-2025-001: 12.5"],
    ),
    (
        "Calculate 3*3 and 4*4 and note the product on PROP-2025-001",
        ["3 * 3 = 9", "4 * 4 = 16", "9 * 16 = 144", "add PROP-2025-001: 144"],
    ),
    (
        "Calculate 3*3 and 4*4 and note the difference on PROP-2025-001",
        ["3 * 3 = 9", "4 * 4 = 16", "abs(9 - 16) = 7", "add PROP-2025-001: 7"],
    ),
    (
        "Calculate 3*3 and 4*4 and add them up and note the total on PROP-2025-001",
        ["3 * 3 = 9", "4 * 4 = 16", "9 + 16 = 25", "add PROP-2025-001: 25"],
    ),
    (
        "Calculate 3*3 and 4*4 and note the first on PROP-2025-001",
        ["3 * 3 = 9", "4 * 4 = 16", "add PROP-2025-001: 9"],
    ),
    (
        "Calculate 3*3 and 4*4 and note the last result on PROP-2025-001",
        ["3 * 3 = 9", "4 * 4 = 16", "add PROP-2025-001: 16"],
    ),
    (
        "Calculate 3*3 and 4*4 and note it on PROP-2025-001",
        ["3 * 3 = 9", "4 * 4 = 16", "add PROP-2025-001: 9; 16"],
    ),
    (
        "Calculate 3*3 and 4*4 and add a note to PROP-2025-001",
        ["3 * 3 = 9", "4 * 4 = 16", "add PROP-2025-001: 9; 16"],
    ),
    (
        "Calculate 3*3 and 4*4 and note 'First <result>, second <result>' on PROP-2025-001",
        ["3 * 3 = 9", "4 * 4 = 16", "add PROP-2025-001: First 9, second 16"],
    ),
    (
        'Add the note "Paid" to PROP-2025-249 and PROP-2025-250',
        ["add PROP-2025-249: Paid", "add PROP-2025-250: Paid"],
    ),
    (
        'Add two notes to PROP-2025-251: "a b" and "c d"',
        ["add PROP-2025-251: a b", "add PROP-2025-251: c d"],
    ),
    (
        "Add note 'a' to PROP-2025-267 and note 'b' to PROP-2025-268",
        ["add PROP-2025-267: a", "add PROP-2025-268: b"],
    ),
    (
        "list the notes for PROP-2025-315 and PROP-2025-316",
        ["list PROP-2025-315", "list PROP-2025-316"],
    ),
    (
        "Calculate 6*7 and add the result as a note to PROP-2025-401",
        ["6*7 = 42", "add PROP-2025-401: 42"],
    ),
    (
        "Compute 20% of 500, then save it to PROP-2025-402",
        ["20/100 * 500 = 100", "add PROP-2025-402: 100"],
    ),
    (
        "What is 3+4? Record the answer on PROP-2025-403.",
        ["3+4 = 7", "add PROP-2025-403: 7"],
    ),
    (
        "Search for DAO voting and note the results on PROP-2025-404",
        [
            "search DAO voting",
            "add PROP-2025-404: Search for 'DAO voting' found 3 results: Page 1; Page 2; Page 3",
        ],
    ),
    (
        "Add 5 and 6, then multiply by 2",
        ["5 + 6 = 11", "11 * 2 = 22"],
    ),
    (
        "multiply 6 by 7 and add 8",
        ["6 * 7 = 42", "42 + 8 = 50"],
    ),
    (
        "Calculate 100/4 and subtract 5 from it",
        ["100/4 = 25", "25 - 5 = 20"],
    ),
    (
        "What is 1+1 and what is 2*2?",
        ["1+1 = 2", "2*2 = 4"],
    ),
    (
        "Compute 3*3 and 4*4",
        ["3 * 3 = 9", "4 * 4 = 16"],
    ),
    (
        "Search for Aave and search for Compound",
        ["search Aave", "search Compound"],
    ),
    (
        "Search for rust; calculate 2*3",
        ["search rust", "2*3 = 6"],
    ),
    (
        "Calculate 5*5 and search for pi day",
        ["5*5 = 25", "search pi day"],
    ),
    (
        "calculate 10*10 and write 'Total: <result>' to PROP-2025-405",
        ["10*10 = 100", "add PROP-2025-405: Total: 100"],
    ),
    (
        "First, look up gas prices. Then note what you find on PROP-2025-406",
        [
            "search gas prices",
            "add PROP-2025-406: Search for 'gas prices' found 3 results: Page 1; Page 2; Page 3",
        ],
    ),
    (
        "Compute 8*8; add the note 'sized' to PROP-2025-407",
        ["8*8 = 64", "add PROP-2025-407: sized"],
    ),
    (
        "Calculate 2+2 and add note to PROP-2025-408: done",
        ["2+2 = 4", "add PROP-2025-408: done"],
    ),
    (
        "Calculate 9*9, look up golden ratio, and note both on PROP-2025-409",
        [
            "9*9 = 81",
            "search golden ratio",
            "add PROP-2025-409: 81; Search for 'golden ratio' found 3 results: Page 1; Page 2; Page 3",
        ],
    ),
    (
        "Take the square root of 144 and add 5",
        ["sqrt(144) = 12", "12 + 5 = 17"],
    ),
    (
        "Calculate 5+5 and double it",
        ["5+5 = 10", "2 * 10 = 20"],
    ),
    (
        "what is 50% of 80, and what is 25% of 80?",
        ["50/100 * 80 = 40", "25/100 * 80 = 20"],
    ),
    (
        "Record the sum of 4 and 5 as a note on PROP-2025-412",
        ["4 + 5 = 9", "add PROP-2025-412: 9"],
    ),
    (
        "Log the average of 2 and 4 on PROP-2025-413",
        ["(2 + 4) / 2 = 3", "add PROP-2025-413: 3"],
    ),
    (
        "Calculate 7*7 and leave a note on PROP-2025-414 with the result",
        ["7*7 = 49", "add PROP-2025-414: 49"],
    ),
    (
        "calculate 1+2 then note the total on PROP-2025-415",
        ["1+2 = 3", "add PROP-2025-415: 3"],
    ),
    (
        "Read the notes on PROP-2025-416 and add 'seen' to PROP-2025-416",
        ["list PROP-2025-416", "add PROP-2025-416: seen"],
    ),
    (
        "Do the following: search for Lido; compute 3*4",
        ["search Lido", "3*4 = 12"],
    ),
    (
        "What is 10% of 250 and add it to PROP-2025-419 as a note",
        ["10/100 * 250 = 25", "add PROP-2025-419: 25"],
    ),
    (
        "Who founded Ethereum and what is 5*5",
        ["search Who founded Ethereum", "5*5 = 25"],
    ),
    (
        "Please calculate 15*4 and then attach the answer to PROP-2025-421 as a note",
        ["15*4 = 60", "add PROP-2025-421: 60"],
    ),
    (
        "add a note to PROP-2025-422 with the result of 12*9",
        ["12*9 = 108", "add PROP-2025-422: 108"],
    ),
    (
        "Search for timelocks and save the findings to PROP-2025-423",
        ["search timelocks", "add PROP-2025-423: Search for 'timelocks' found 3 results: Page 1; Page 2; Page 3"],
    ),
    (
        "subtract 3 from 10, then square it",
        ["10 - 3 = 7", "7**2 = 49"],
    ),
    (
        "Calculate 4+4. Then calculate 5+5.",
        ["4+4 = 8", "5+5 = 10"],
    ),
    (
        "Find the square root of 49 and store it on PROP-2025-424",
        ["sqrt(49) = 7", "add PROP-2025-424: 7"],
    ),
    (
        "divide 100 by 4, then divide the result by 5, then add 1",
        ["100 / 4 = 25", "25 / 5 = 5", "5 + 1 = 6"],
    ),
    (
        "calculate 3*3 and 4*4 and note both on PROP-2025-425",
        ["3 * 3 = 9", "4 * 4 = 16", "add PROP-2025-425: 9; 16"],
    ),
    (
        "Calculate 4*25 and note the result in PROP-2025-426, then search for governance minimization",
        ["4*25 = 100", "add PROP-2025-426: 100", "search governance minimization"],
    ),
    (
        "Calculate 2+2 and add note to PROP-2025-514: <result>",
        ["2+2 = 4", "add PROP-2025-514: <result>"],
    ),
    (
        "Work out 3 + 4 then multiply the result by 2",
        ["3 + 4 = 7", "7 * 2 = 14"],
    ),
    (
        "Calculate 8*9, then record the result on PROP-2025-701",
        ["8*9 = 72", "add PROP-2025-701: 72"],
    ),
    (
        "Find the average of 4 and 6 and write it to PROP-2025-702",
        ["(4 + 6) / 2 = 5", "add PROP-2025-702: 5"],
    ),
    (
        "What is 15% of 300? Save that as a note on PROP-2025-703.",
        ["15/100 * 300 = 45", "add PROP-2025-703: 45"],
    ),
    (
        "Search for validator uptime then add a note to PROP-2025-704 with the findings",
        [
            "search validator uptime",
            "add PROP-2025-704: Search for 'validator uptime' found 3 results: Page 1; Page 2; Page 3",
        ],
    ),
    (
        "Calculate 3+4 and put the result in a note on PROP-2025-705",
        ["3+4 = 7", "add PROP-2025-705: 7"],
    ),
    (
        "Compute 2**8. Add the result to PROP-2025-706. Then search for powers of two.",
        ["2**8 = 256", "add PROP-2025-706: 256", "search powers of two"],
    ),
    (
        "Research zk rollups and save a summary as a note to PROP-2025-707",
        [
            "search zk rollups",
            "add PROP-2025-707: Search for 'zk rollups' found 3 results: Page 1; Page 2; Page 3",
        ],
    ),
    (
        "Calculate 100*1.1 and note 'New budget: {result}' on PROP-2025-708",
        ["100*1.1 = 110", "add PROP-2025-708: New budget: 110"],
    ),
    (
        "look up EIP-1559 and calculate 30*21000",
        ["search EIP-1559", "30*21000 = 630000"],
    ),
    (
        "what's 5+5, 6+6 and 7+7?",
        ["5 + 5 = 10", "6 + 6 = 12", "7 + 7 = 14"],
    ),
    (
        "Calculate 10+5 and then multiply that by 3",
        ["10+5 = 15", "15 * 3 = 45"],
    ),
    (
        "Add 10 and 20, divide the result by 3, and add it as a note to PROP-2025-709",
        ["10 + 20 = 30", "30 / 3 = 10", "add PROP-2025-709: 10"],
    ),
    (
        "Add the note 'begin' to PROP-2025-710 and calculate 4*4",
        ["add PROP-2025-710: begin", "4*4 = 16"],
    ),
    (
        "Show the notes on PROP-2025-711 and calculate 1+1",
        ["list PROP-2025-711", "1+1 = 2"],
    ),
    (
        "Calculate the square root of 81 and add the answer as a note on PROP-2025-712 and search for roots",
        ["sqrt(81) = 9", "add PROP-2025-712: 9", "search roots"],
    ),
    (
        "Compute 7*6, and add a note to PROP-2025-713 saying 'The answer is <result>'",
        ["7*6 = 42", "add PROP-2025-713: The answer is 42"],
    ),
    (
        "1. Calculate 2+3\n2. Search for five",
        ["2+3 = 5", "search five"],
    ),
    (
        "Calculate 2+3\nSearch for five",
        ["2+3 = 5", "search five"],
    ),
    (
        "Work out 20% of 90 and leave it as a note on PROP-2025-716",
        ["20/100 * 90 = 18", "add PROP-2025-716: 18"],
    ),
    (
        "Add a note to PROP-2025-718 and PROP-2025-719: same",
        ["add PROP-2025-718: same", "add PROP-2025-719: same"],
    ),
    (
        "Compute 6*6 and post the result as a note on PROP-2025-720 and PROP-2025-721",
        ["6*6 = 36", "add PROP-2025-720: 36", "add PROP-2025-721: 36"],
    ),
    (
        "please calculate 12/4, look up trilemma and tell me both results",
        ["12/4 = 3", "search trilemma"],
    ),
    (
        "Calculate 12 * 12, write the result to PROP-2025-722 and read the notes of PROP-2025-722",
        ["12 * 12 = 144", "add PROP-2025-722: 144", "list PROP-2025-722"],
    ),
    (
        "how much is 5*5 and who discovered gravity?",
        ["5*5 = 25", "search who discovered gravity"],
    ),
    (
        "Compute 5*8 and store the answer in the notes of PROP-2025-801",
        ["5*8 = 40", "add PROP-2025-801: 40"],
    ),
    (
        "Look up quadratic voting; add a note to PROP-2025-802 with what you find",
        [
            "search quadratic voting",
            "add PROP-2025-802: Search for 'quadratic voting' found 3 results: Page 1; Page 2; Page 3",
        ],
    ),
    (
        "Multiply 12 by 4 and subtract 8",
        ["12 * 4 = 48", "48 - 8 = 40"],
    ),
    (
        "What's 5% of 2000? And what's 10% of 2000?",
        ["5/100 * 2000 = 100", "10/100 * 2000 = 200"],
    ),
    (
        "Calculate 3**4; search for exponentiation; note both on PROP-2025-803",
        [
            "3**4 = 81",
            "search exponentiation",
            "add PROP-2025-803: 81; Search for 'exponentiation' found 3 results: Page 1; Page 2; Page 3",
        ],
    ),
    (
        "Note 'kickoff' on PROP-2025-804, then compute 1+2",
        ["add PROP-2025-804: kickoff", "1+2 = 3"],
    ),
    (
        "Calculate 9*5 and then add a note to PROP-2025-805 saying the result",
        ["9*5 = 45", "add PROP-2025-805: 45"],
    ),
    (
        "Please work out 7*8, then write it down on PROP-2025-806",
        ["7*8 = 56", "add PROP-2025-806: 56"],
    ),
    (
        "What is 10% of 5000 and record that in PROP-2025-807",
        ["10/100 * 5000 = 500", "add PROP-2025-807: 500"],
    ),
    (
        "search for EIP-712 and then add note to PROP-2025-809: researched",
        ["search EIP-712", "add PROP-2025-809: researched"],
    ),
    (
        "calculate 2+3, 4+5",
        ["2 + 3 = 5", "4 + 5 = 9"],
    ),
    (
        "First compute 6*6, second compute 7*7",
        ["6*6 = 36", "7*7 = 49"],
    ),
    (
        "Calculate 100-1 and document the result on PROP-2025-810",
        ["100-1 = 99", "add PROP-2025-810: 99"],
    ),
    (
        "find DAO news and calculate 1+1",
        ["search DAO news", "1+1 = 2"],
    ),
    (
        "Search for fastapi and add a summary note to PROP-2025-640",
        ["search fastapi", "add PROP-2025-640: Search for 'fastapi' found 3 results: Page 1; Page 2; Page 3"],
    ),
    (
        "Search for fastapi and put the first result in a note on PROP-2025-640",
        ["search fastapi", "add PROP-2025-640: Search for 'fastapi' found 3 results: Page 1; Page 2; Page 3"],
    ),
    (
        "Look up fastapi and add a note to PROP-2025-640 summarizing the results",
        ["search fastapi", "add PROP-2025-640: Search for 'fastapi' found 3 results: Page 1; Page 2; Page 3"],
    ),
    (
        "Search for fastapi and add a note to PROP-2025-640",
        ["search fastapi", "add PROP-2025-640: Search for 'fastapi' found 3 results: Page 1; Page 2; Page 3"],
    ),
    (
        "Search for fastapi then leave a note on PROP-2025-640",
        ["search fastapi", "add PROP-2025-640: Search for 'fastapi' found 3 results: Page 1; Page 2; Page 3"],
    ),
    (
        "Search for fastapi and note the top 3 results on PROP-2025-640",
        ["search fastapi", "add PROP-2025-640: Search for 'fastapi' found 3 results: Page 1; Page 2; Page 3"],
    ),
    (
        "Add a note to PROP-2025-640 with the top search result for fastapi",
        ["search fastapi", "add PROP-2025-640: Search for 'fastapi' found 3 results: Page 1; Page 2; Page 3"],
    ),
    (
        "Note the results of a search for fastapi on PROP-2025-640",
        ["search fastapi", "add PROP-2025-640: Search for 'fastapi' found 3 results: Page 1; Page 2; Page 3"],
    ),
    ("Add a note to PROP-2025-640 containing the result of 6*7", ["6*7 = 42", "add PROP-2025-640: 42"]),
    ("Calculate 5*5. Search for the result.", ["5*5 = 25", "search 25"]),
    (
        "Search for fastapi; calculate 6*7; note the number on PROP-2025-640",
        ["search fastapi", "6*7 = 42", "add PROP-2025-640: 42"],
    ),
    (
        "1. Calculate 5+5\n2. Add note to PROP-2025-640: the sum is ready",
        ["5+5 = 10", "add PROP-2025-640: the sum is ready"],
    ),
    ("1) calculate 5*5 2) search for pentagons", ["5*5 = 25", "search pentagons"]),
    ("- calculate 5+5\n- search for dao", ["5+5 = 10", "search dao"]),
    (
        "First, calculate 5+5. Second, search for dao. Third, add note 'x' to PROP-2025-640.",
        ["5+5 = 10", "search dao", "add PROP-2025-640: x"],
    ),
    (
        "Calculate 10/3 and round to 2 decimals",
        ["10/3 = 3.3333333333333335", "round(3.3333333333333335, 2) = 3.33"],
    ),
    ("Calculate 5+5, then 6+6", ["5 + 5 = 10", "6 + 6 = 12"]),
    ("start with 10, add 5, multiply by 2", ["10 + 5 = 15", "15 * 2 = 30"]),
    ("take 10, double it, add 3", ["2 * 10 = 20", "20 + 3 = 23"]),
    ("if i have 50 and subtract 12 what do i get", ["50 - 12 = 38"]),
    ("add 20% to 100 and subtract 10%", ["100 * (1 + 20/100) = 120", "120 * (1 - 10/100) = 108"]),
    ("add 20 and 80, then add 10%", ["20 + 80 = 100", "100 * (1 + 10/100) = 110"]),
    (
        "Calculate 100/3 rounded to 2 decimals and note it on PROP-2025-640",
        ["round(100 / 3, 2) = 33.33", "add PROP-2025-640: 33.33"],
    ),
    ("Calculate 10% of 5000 and then add 20 to the result", ["10/100 * 5000 = 500", "20 + 500 = 520"]),
    ("Calculate 5+5 and round it to the nearest ten", ["5+5 = 10", "round(10, -1) = 10"]),
    ("subtract 10 from 5, then square it and search for the result", ["5 - 10 = -5", "(-5)**2 = 25", "search 25"]),
    (
        "Calculate 5*5, search for dao and note both results on PROP-2025-640",
        [
            "5*5 = 25",
            "search dao",
            "add PROP-2025-640: 25; Search for 'dao' found 3 results: Page 1; Page 2; Page 3",
        ],
    ),
    (
        "Calculate 5*5 and search for dao and note the result of the calculation on PROP-2025-640",
        ["5*5 = 25", "search dao", "add PROP-2025-640: 25"],
    ),
    (
        "Search for dao and calculate 5*5 and note the findings on PROP-2025-640",
        ["search dao", "5*5 = 25", "add PROP-2025-640: Search for 'dao' found 3 results: Page 1; Page 2; Page 3"],
    ),
]


@pytest.mark.parametrize(("goal", "steps"), SEVERAL)
def test_several_steps_are_taken_in_order(goal: str, steps: list[str]) -> None:
    run = carry_out(goal)
    assert run.steps == steps
    assert not run.declined
