"""The vocabulary of tagging: label nouns, first words of asks, and cues, in several languages.

Everything here is a general word of its language, lower-case.  Nothing is a prompt's wording.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum


@dataclass(frozen=True, slots=True)
class Lexicon:
    """A pattern, and words of which an ASCII text must hold one for the pattern to be found.

    Looking a text's words up in a set is some twenty times faster than searching for alternatives.
    """

    pattern: re.Pattern[str]
    gate: frozenset[str]

    def within(self, text: str, spoken: frozenset[str]) -> bool:
        """Tell whether ``text``, whose lower-case words are ``spoken``, holds the pattern."""
        if text.isascii() and self.gate.isdisjoint(spoken):
            return False
        return self.pattern.search(text) is not None

    def count(self, text: str, spoken: frozenset[str]) -> int:
        """Return how often the pattern is found."""
        if text.isascii() and self.gate.isdisjoint(spoken):
            return 0
        return len(self.pattern.findall(text))


class Label(StrEnum):
    """What a label, heading or tag announces."""

    CONTEXT = "context"
    QUESTION = "question"
    INSTRUCTION = "instruction"
    INPUT = "input"  # context when it is a long text, the question when it is short
    ANSWER = "answer"  # where the model is to go on
    DEMO = "demo"
    META = "meta"  # one line of a document's head: title, source, date


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_NOUNS = {
    Label.CONTEXT: _words("""
        context contexts passage passages document documents doc docs article articles text texts
        source sources background material materials reference references results snippet snippets
        excerpt excerpts transcript transcripts transcription conversation dialogue dialog chat
        history email emails mail ticket tickets thread log logs trace stacktrace traceback code
        file files schema table tables data dataset csv json yaml xml html report reports paper
        abstract contract agreement policy policies resume cv description review reviews notes
        minutes meeting story facts evidence information info knowledge content contents paragraph
        paragraphs chapter section page pages webpage website records diff patch manual
        documentation faq faqs memory memories observation observations post comment comments
        clause clauses letter memo statement statements case lecture speech essay listing
        inventory catalog catalogue profile biography bio database corpus kb
        contexto pasaje pasajes documento documentos artículo texto textos fuente fuentes
        antecedentes
        datos informe fragmento fragmentos párrafo correo transcripción historia información
        extracto
        kontext dokument dokumente artikel quelle quellen hintergrund daten bericht abschnitt
        protokoll auszug absatz vertrag informationen unterlagen
        contexte passages extrait extraits données rapport texte textes article courriel contrat
        informations paragraphe sources documents
        trecho trechos artigo fonte fontes dados relatório parágrafo informações contexto
        contesto brano brani articolo testo testi fonti dati estratto documenti informazioni
        контекст документ документы текст тексты статья источник источники отрывок отрывки данные
        справка материал материалы фрагмент сведения абзац
        संदर्भ पाठ लेख अनुच्छेद दस्तावेज़ दस्तावेज गद्यांश जानकारी
        السياق النص نص سياق المقال المقالة الفقرة الفقرات المستند المستندات المصدر المصادر الوثيقة
        上下文 背景 文章 文本 资料 材料 内容 文档 段落 参考 参考资料 原文 正文 背景知识 参考文献
        已知信息 语境
        検索結果 文脈 本文 文書 資料 参考情報 コンテキスト 記事 テキスト 搜索结果 检索结果 맥락
        문맥 본문 문서"""),
    Label.QUESTION: _words("""
        question questions query queries ask request q
        pregunta preguntas consulta frage fragen anfrage questão pergunta perguntas domanda domande
        demande requête вопрос вопросы запрос प्रश्न सवाल السؤال سؤال الأسئلة
        问题 提问 問題 質問 问 查询 用户问题 质问 질문"""),
    Label.INSTRUCTION: _words("""
        instruction instructions task tasks rules rule guidelines guideline requirements
        requirement
        constraints constraint format goal goals objective objectives role system note notice
        important tone style steps criteria directive directives persona warning reminder hint
        labels categories thought thoughts action
        instrucción instrucciones tarea reglas formato anweisung anweisungen aufgabe regeln
        consigne consignes tâche règles instruções tarefa regras istruzioni compito regole
        инструкция инструкции задание задача правила निर्देश कार्य नियम تعليمات التعليمات المهمة
        القواعد
        指令 任务 要求 说明 规则 指示 タスク 注意 ルール 格式 지시"""),
    Label.INPUT: _words("""
        input inputs user human customer sentence message problem prompt premise hypothesis tweet
        entrada eingabe entrée вход इनपुट 输入 用户 入力 ユーザー 입력"""),
    Label.ANSWER: _words("""
        answer answers response output reply assistant ai bot a result completion completed
        solution
        sentiment label category class translation summary classification
        reasoning rationale explanation final
        respuesta antwort réponse resposta risposta ответ उत्तर الإجابة الجواب إجابة
        答案 回答 答 输出 出力 답변"""),
    Label.DEMO: _words("example examples demonstration demonstrations demo demos shots fewshot"),
    Label.META: _words("""
        title url link date author from to cc subject sent published
        título titel titre titolo 标题 タイトル"""),
}
LABELS: dict[str, Label] = {word: label for label, words in _NOUNS.items() for word in words}

FILLERS = _words("""
    the a an my your user users user's our customer customer's client retrieved relevant given
    provided
    original following here is are was current additional supporting search meeting below above new
    full this these that as actual final main product job candidate
    company legal medical patient support server error system stack chat database output input raw
    background context next last first more some all other external related web knowledge base
    el la los las de del der die das den le les des du o os as il lo gli i usuario""")
"""Words that may stand beside a label's noun."""

WH = _words("""
    who what when where why how which whose whom is are was were does did can could would has
    whats who's what's where's when's how's isn't aren't doesn't didn't
    quién quiénes qué cuál cuáles cuándo dónde cómo cuánto cuánta cuántos cuántas
    wer was wann wo warum wie welche welcher welches wem wen woher wieviel
    qui quoi quand où pourquoi comment quel quelle quels quelles combien est-ce qu'est-ce
    quem qual quais quando onde como quanto quantos quantas chi cosa dove perché quale quali quanti
    кто что когда где почему зачем как какой какая какое какие сколько чей куда откуда
    ما ماذا من متى أين لماذا كيف كم هل أي بماذا لمن بمن فيم""")

COMPREHEND = _words("""
    answer summarize summarise explain extract list find identify classify translate proofread
    paraphrase rewrite rephrase describe compare tell give state name quote cite determine
    analyze analyse review correct fix count convert simplify shorten condense outline
    evaluate rate score rank label categorize categorise detect highlight point show infer decide
    suggest recommend read check verify discuss interpret annotate tag transcribe
    calculate compute solve predict draft reply respond debug refactor optimize optimise edit
    improve assess judge match choose select pick
    nombra nombre diga di menciona nenne nomme cite nommez cita nomina أعط عدد سم
    resume resuma resumir resúmeme responde responda contesta explica explique extrae extraiga
    traduce
    traduzca enumera indica señala encuentra
    fasse beantworte erkläre übersetze nenne finde liste extrahiere analysiere antworte antworten
    résume résumez réponds répondez explique expliquez traduis traduisez extrais extrayez trouve
    analysez indiquez
    responda resuma explique traduza extraia liste encontre indique
    riassumi rispondi spiega traduci estrai elenca trova indica
    ответь ответьте объясни объясните переведи переведите перечисли перечислите кратко суммируй
    перескажи изложи найди найдите назови назовите извлеки проанализируй укажи
    لخص أجب ترجم اشرح استخرج حدد اذكر لخّص اجب وضح قارن حلل""")
"""First words of an ask about a text that is given."""

COMMAND = _words("""
    use keep don't dont never always only ensure make avoid include exclude be provide return
    output write create generate compose design build develop implement act assume imagine pretend
    consider remember follow think ignore limit format start begin end stop say speak base rely
    refer stick refuse report present mention add remove please put leave respect help note let's
    work produce print call stay maintain adopt wrap structure complete fill continue reason
    convert prefer try treat insert ask wait
    usa use escribe escriba crea no mantén incluye evita
    verwende benutze schreibe gib halte bitte erstelle vermeide
    utilise utilisez écris écrivez donne donnez ne gardez évitez rédige rédigez
    use escreva dê não mantenha evite usa scrivi dai non mantieni evita
    используй используйте напиши напишите дай дайте не пиши пишите избегай
    اكتب استخدم قدم لا تجنب أعط""")
"""First words of other commands to the model."""

NOT_COMMANDS = _words("of is was are were has had and or")
"""Second words after which the first is a noun: "Use of force is ..."."""

MODAL = re.compile(
    r"\b(?:must|should|shall|need to|do not|don't|never|always|only|please|debe\\w*|muss|müssen"
    r"|doit|deve"
    r"|должен|должн\w*)\b|必须|不要|只",
    re.IGNORECASE,
)

POLITE = _words("""
    please now then also finally next first kindly so and but bitte por favor veuillez пожалуйста
    s'il important briefly carefully simply just step""")

OPENERS = _words("""
    based using given according considering if when unless your you in with from at no for after
    below here following above i we let this each every every any
    basándote según usando basierend gemäß en d'après selon à com baseado in basandoti secondo
    на исходя по согласно""")
"""First words that open an ask only where a word about answering follows."""

IMPERATIVE_START = re.compile(
    r"^(?:请|請|用|翻译|总结|概括|回答|根据|列出|写|不要|説明|要約|次の"
    r"|以下の)"
)
IMPERATIVE_END = re.compile(
    r"(?:ください|なさい|せよ|しろ|しなさい|こと|कीजिए|करें|दीजिए|दें|लिखें|बताइए|बताएं|बताएँ"
    r"|बताओ|하세요|하시오|주세요)[。.।！!\s]*$"
)
WH_INSIDE = re.compile(
    r"什么|什麼|谁|誰|哪|为何|怎|为什么|多少|几|吗|嗎|呢|是否|どこ|いつ|なぜ|どの|どう|いくつ|何"
    r"|क्या|कौन|कब|कहाँ|कहां|क्यों|कैसे|कितन|किस|किन|무엇|누구|언제|어디|어떻게|왜"
)

MODEL_WORDS = Lexicon(
    re.compile(
        r"\b(?:answer(?:s|ing|ed)?|respond|response|reply|question|query|assistant|ai model"
        r"|chatbot|cite"
        r"|output|json|markdown|bullet points?|user's|the user|task|instructions?|summary"
        r"|summari[sz]e"
        r"|passages?|context|step by step|your (?:job|role|goal)|language model|prompt|at most|"
        r"no more than|words?|sentences?|paragraphs?|preamble"
        r"|respuesta|responde|responda|pregunta|contexto|antwort(?:en|e|est)?|frage|kontext"
        r"|réponse|réponds|répondez"
        r"|question|contexte|resposta|pergunta|risposta|domanda|contesto|ответ\w*|вопрос\w*"
        r"|контекст\w*"
        r"|أجب|السؤال|الإجابة|उत्तर|प्रश्न)\b|回答|答案|上下文|答え|質問|答复",
        re.IGNORECASE,
    ),
    _words("""
        answer answers answering answered respond response reply question query assistant ai
        chatbot cite
        output json markdown bullet user task instruction instructions summary summarize
        summarise passage
        passages context step your language prompt at no word words sentence sentences paragraph
        paragraphs
        preamble respuesta responde responda pregunta contexto frage kontext contexte resposta
        pergunta risposta domanda contesto antwort antworten antworte antwortest"""),
)
"""Words about answering: they mark text that talks to the model."""

ANSWERING = Lexicon(
    re.compile(
        r"\b(?:answers?|respond|responses?|repl(?:y|ies)|cite|cited|citations?|output|json"
        r"|markdown|bullet points?"
        r"|summary|preamble|respuestas?|antwort(?:en|e|est)?|réponses?|respostas?|risposte?"
        r"|ответ\w*|الإجابة|उत्तर)\b"
        r"|回答|答案|答え",
        re.IGNORECASE,
    ),
    _words("""
        answer answers respond response responses reply replies cite cited citation citations
        output
        json markdown bullet summary preamble respuesta respuestas resposta respostas risposta
        risposte antwort antworten antworte antwortest"""),
)
"""The words among them that no document uses of itself."""

STRONG_ADDRESS = Lexicon(
    re.compile(
        r"\b(?:you are an? |you will be |you must|you should|your (?:task|job|role|goal|answer"
        r"|response|output)"
        r"|the user|the assistant|helpful assistant|do not (?:use|make|mention|include|answer"
        r"|add|reveal|invent|guess)"
        r"|don't (?:use|make|mention|include|answer|add|invent|know)"
        r"|as an ai|step by step|eres un|usted es|du bist|sie sind ein|tu es un|vous êtes un"
        r"|você é um"
        r"|sei un|ты —|вы —|ты -|вы -)|你是|您是|あなたは|आप एक|أنت ",
        re.IGNORECASE,
    ),
    _words("""
        you your user assistant do don as step eres usted du sie tu sei"""),
)

FIRST_PERSON = Lexicon(
    re.compile(
        r"\b(?:I(?='|’| (?:am|was|have|had|want|need|would|will|can|could|do|did|don't|think"
        r"|know|like|just"
        r"|recently|also|got|tried|live|work|should|really|never|always|feel|hope|keep|get|see"
        r"|use|run|found"
        r"|wrote|made|bought|noticed|asked|told|said|went)\b)|(?i:i'm|i've|i'd|i'll|my|myself"
        r"|we're|we've"
        r"|our|ours|yo|mis|nosotros|nuestr[oa]|ich|mein(?:e|en|em)?|mich|wir|unser(?:e)?|je"
        r"|j'ai|notre"
        r"|meu|minha|nosso|mio|mia|мой|моя|моё|мои|мне|меня|мы|наш|أنا|لدي|عندي|نحن)|[Ww]e|я|Я"
        r")\b|(?:^|[\s(])(?:मैं|मैंने|मुझे|मेरा|मेरी|मेरे|हमारे)\s|我|私は|私の|僕",
    ),
    _words("""
        i my myself we our ours yo mis nosotros nuestro nuestra ich mein meine meinen meinem mich
        wir unser unsere je j notre meu minha nosso mio mia"""),
)

SECOND_PERSON = Lexicon(
    re.compile(
        r"\b(?:you|your|yours|you're|please|usted|tú|tu|du|dein|deine|sie|ihre|vous|votre|você|seu"
        r"|ты|вы|ваш|твой|пожалуйста|आप|आपका|कृपया|أنت)\b|你|您|(?<![申邀聘])请(?!求)|あなた"
        r"|ください",
        re.IGNORECASE,
    ),
    _words("""
        you your yours please usted tu du dein deine sie ihre vous votre seu"""),
)

CUE = re.compile(
    r"\b(?:following|below|above|attached|enclosed|(?:the|this|these|that|provided|given"
    r"|supplied|my)"
    r"(?: \w+){0,2}? (?:context|passages?|documents?|articles?|texts?|sources?|material"
    r"|materials|excerpts?"
    r"|transcripts?|conversation|emails?|logs?|code|report|paper|abstract|contract|story|notes"
    r"|reviews?"
    r"|paragraphs?|snippets?|results|facts|evidence|information|data|table|essay|letter|thread"
    r"|ticket"
    r"|resume|clause|description|listing|diff|trace|input)"
    r"|siguientes?|anterior|según|texto|pasajes?|folgende\w*|obige\w*|text|kontext|gemäß"
    r"|suivante?s?"
    r"|ci-dessous|ci-dessus|texte|selon|d'après|seguintes?|abaixo|acima|trecho|seguent[ei]"
    r"|sotto|sopra|testo"
    r"|следующ\w*|ниже|выше\w*|текст\w*|отрыв\w*|निम्नलिखित|नीचे|ऊपर|अनुच्छेद|पाठ|التالي\w*"
    r"|أدناه|أعلاه|النص"
    r"|الفقرة)\b|以下|下面|上述|上面|根据|文章|文本|上文|下文|次の|上記|記事|다음|아래|위의",
    re.IGNORECASE,
)
"""Words that point at a text given elsewhere in the prompt."""

ABOVE = re.compile(
    r"\b(?:above|preceding|previous|anterior|obige\w*|ci-dessus|acima|sopra|выше\w*|ऊपर|أعلاه)\b"
    r"|上述|上面|上文|上記|위의",
    re.IGNORECASE,
)

FORMAT = re.compile(
    r"\b(?:respond|reply|return|output|format|formatted|schema|structure|template|like this"
    r"|as follows"
    r"|shape|keys?|formato|ausgabe|json object|valid json)\b|格式|输出",
    re.IGNORECASE,
)
"""Words before a block that shows how the answer should look."""

GENERATE = _words("""
    write create generate compose build develop implement draft produce make plan escribe crea
    schreibe erstelle écris rédige escreva scrivi напиши создай اكتب""")
"""First words of an ask for something new: what follows describes it."""

POINT = re.compile(
    r"\b(?:following|below|above|attached|enclosed|this|these|siguientes?|folgende\w*|obige\w*"
    r"|suivante?s?"
    r"|ci-dessous|ci-dessus|seguintes?|abaixo|acima|seguent[ei]|sotto|sopra|следующ\w*|ниже"
    r"|выше\w*|этот"
    r"|निम्नलिखित|नीचे|ऊपर|التالي\w*|أدناه|أعلاه)\b|以下|下面|上述|上面|上文|下文|次の|上記"
    r"|다음|아래|위의",
    re.IGNORECASE,
)
"""Words among the cues that point with a finger, not with a mere noun."""

THIS = re.compile(r"\b(?:this|these)(?: \w+){0,2}? (\w+)", re.IGNORECASE)
"""``these notes``: what a sentence speaks of, whatever it makes of it."""

INDEFINITE = _words("a an some ein eine einen un une una um uma")
PRESENTING = _words("here below this given i use using consider see context")
