from langchain_standard import Standard, main


class TestResponses(Standard):
    by_responses = True
    supports_image_tool_message = True
    supports_pdf_tool_message = True


if __name__ == "__main__":
    main(__file__, test_audio_inputs="The Responses API takes no audio.")
