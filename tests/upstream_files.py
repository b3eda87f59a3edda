"""Small files in the layouts in which the datasets of config.yaml, SIB-200 and AfriXNLI are
published, with the peculiarities of the real ones."""

import pyarrow as pa
import pyarrow.parquet as pq

NUSAX = (
    'id,text,label\n7,"Rancak, bana!",positive\n8,"Indak\nrancak, ""kecek"" urang",negative\n'
    "9,NA,neutral\n10,nasi padang,positive\n"
)
AMERICASNLI = (
    "id\tlanguage\tpremise\thypothesis\tlabel\n"
    '25051\tnah\t"Tlein tikijtoa\tAmo "nikmati\tneutral\n'
    "25576\tnah\t \tYa yajki.\tcontradiction\n25577\tnah\tnull\t Axkan yaui \tentailment\n"
)
SMSA = 'warung ini " enak " sekali\tpositive\n" mahal\tnegative\nbiasa saja , ya\tneutral\n'
SMSA_TRIMMED = "text\tlabel\nenak sekali\t2\nmahal , ya\t0\nbiasa\t1\n"
AMERICASNLP = "\ufeffÑuqa hamuni.\n\n  Imaynalla kashanki?  \r\nAllinllam.\n"
SIB200 = (
    "index_id\tcategory\ttext\n12\tscience/technology\tInti atom.\n"
    '907\ttravel\t"Urang kecek ""iyo"" sajo."\n1001\tgeography\tPulau \u200cketek .\n'
)
AFRIXNLI = (
    "premise\thypothesis\tlabel\nMo wá.\tMi ò wá. \tcontradiction\n"
    '"Ó ní\n""bẹ́ẹ̀ ni"""\t Ó gbà\tentailment\nMo wá.\tÒjò rọ̀\tneutral\n'
)
MULTINLI = {
    "promptID": [31193, 101457],
    "premise": ["Conceptually cream skimming .", "you know \n during the season"],
    "hypothesis": ["Product and geography .", "You lose the things ."],
    "genre": ["government", "telephone"],
    "label": [1, 0],
}
WIKIPEDIA = {
    "id": ["3", "4", "17"],
    "url": ["https://x/1", "https://x/2", "https://x/3"],
    "title": ["Acèh", "Banda", "-"],
    "text": ["Acèh nakeuh nanggroë.\n\n  Sijarah \nNyoe.", " \n", "Saboh baris."],
}

TEXTS = {
    ("nusax", "ace", "test"): NUSAX,
    ("americasnli", "grn", "valid"): AMERICASNLI,
    ("smsa", "ind", "train"): SMSA,
    ("americasnlp", "quy", "train"): AMERICASNLP,
    ("smsa-trimmed", "ind", "valid"): SMSA_TRIMMED,
    ("sib200", "ace_Arab", "valid"): SIB200,
    ("afrixnli", "yor", "test"): AFRIXNLI,
}
TABLES = {("multinli", "eng", "valid"): MULTINLI, ("wikipedia", "ace", "train"): WIKIPEDIA}


def write_upstream(folder, dataset, name, language, split):
    """The file of one split of a dataset below the folder, in its upstream layout."""
    path = folder / dataset.fill(dataset.files, language, split)
    path.parent.mkdir(parents=True, exist_ok=True)
    key = (name, language, split)
    if key in TABLES:
        pq.write_table(pa.table(TABLES[key]), path)
    else:
        path.write_bytes(TEXTS[key].encode())
    return path
